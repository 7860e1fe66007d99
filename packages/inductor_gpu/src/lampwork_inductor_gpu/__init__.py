"""Triton code generation for Lampwork."""
