"""What made the bundled models and the published tables; installed by pip beside the library, absent from the extension."""
