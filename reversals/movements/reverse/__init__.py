"""A reversal: points go back to the lots that a redemption drew on."""
