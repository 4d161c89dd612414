"""Procedural birds: pictures whose ground truth is known down to the part that tells two classes apart."""
