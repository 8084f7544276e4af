"""Warm copies of an Apache Jackrabbit Oak TarMK repository on other machines."""

__version__ = "0.1.0"
