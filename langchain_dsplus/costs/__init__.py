"""What calls cost: tokens as every provider reports them, prices, the ledger, what was saved."""
