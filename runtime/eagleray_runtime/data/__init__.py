"""Rows to learn from.

- `table`: columns in memory
- `reading`: CSV, Parquet and NPZ files as a table; `sample`: the data set that the runtime makes itself
- `splitting`: training, validation and test part
- `preparation`: statistics fitted on the training part, and the one transform of training and serving
- `dataset`: all of it in order, from the configuration to arrays
"""
