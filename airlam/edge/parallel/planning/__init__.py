"""Plans of collaborative training: who takes part, in which mode, with which share."""
