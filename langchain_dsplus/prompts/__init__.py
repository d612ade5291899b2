"""What the large model is asked: pruned candidates, denoised text, parsed answers."""
