"""Engines that run networks beside PyTorch, to be measured against it."""
