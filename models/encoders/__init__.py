"""Encoders: one network a file, each a `models.networks.Encoder`."""
