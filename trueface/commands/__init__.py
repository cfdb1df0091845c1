"""The commands of `trueface`, a module for those that have much in common."""
