"""What tests, demonstrations, chaos and benchmarks share: conformance suites, and a federation of real processes."""
