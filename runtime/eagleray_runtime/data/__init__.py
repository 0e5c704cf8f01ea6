"""Rows to learn from.

- `table`: columns in memory
- `reading`: CSV, Parquet, NPZ and JSON Lines files as a table; `sample`: the data set that the runtime makes itself
- `rows`: what the configuration names, from wherever it is; `cleaning`: what is not right with it
- `image_rows`: the same of images, in NPZ files or as a folder of pictures for each class; `pictures`: PNG and JPEG as numbers
- `text_files`: texts in files of their own; `tokenization`: text as tokens and back; `texts`: tokens in rows
- `splitting`: training, validation and test part; `windows`: rows that follow each other in time
- `outliers`, `scaling`, `encoding`, `images`: what is fitted to a column; `overrides`: what is wanted of which column
- `preparation`: all that is fitted to the training part, and the one transform of training and serving
- `notes`: what became of the rows, in words; `naming`: columns in messages
- `dataset`: all of it in order, from the configuration to arrays
"""
