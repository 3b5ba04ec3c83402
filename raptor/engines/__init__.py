"""Where the batches of a build are computed: in processes of this machine, or on a Ray cluster."""
