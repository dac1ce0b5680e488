"""What is watched: the scorecard of the business goals."""
