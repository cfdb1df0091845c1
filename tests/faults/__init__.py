"""What the tests find: faults are planted into copies of the checkout, and the tests of the changed lines are run."""
