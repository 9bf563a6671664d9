"""What tests of services and adapters share: conformance suites, harness, builders."""
