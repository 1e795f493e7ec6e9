"""How frames are sampled."""
