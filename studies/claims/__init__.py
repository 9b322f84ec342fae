"""The laboratory: which of the method's claims hold, on a world whose truth is known."""
