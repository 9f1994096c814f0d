"""Cases on disk and made cases: readers, converters and the digital phantom."""
