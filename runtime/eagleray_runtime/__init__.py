"""What runs in the user's pods: preparation of data, training, evaluation, saving and serving."""
