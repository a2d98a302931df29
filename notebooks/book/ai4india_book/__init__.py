"""What Sphinx, MyST-NB and Furo do not do by themselves: each module is a Sphinx extension with one idea."""
