"""What calls cost: reading what a provider says about tokens, and adding it up."""
