"""Spoofed speech of our own making: copy-synthesis of human clips and classical text-to-speech."""
