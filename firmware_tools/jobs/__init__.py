"""Work in many independent jobs: what they are, where they run, and what is known already."""
