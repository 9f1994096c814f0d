"""Corrected cases beyond what the panel does with them: exchange, archives, schemes that change, audits of folders."""
