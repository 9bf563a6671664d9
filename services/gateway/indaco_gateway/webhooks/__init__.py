"""What happens, told to programs outside: callbacks and subscriptions."""
