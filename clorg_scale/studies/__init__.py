"""Questions that the paper leaves open, each answered by a table and a plot.

RLD over temperatures; stability over seeds and data sets; strength of augmentation; architecture; data that are no
images; probes against neighbors, temperature and share of labels.
"""
