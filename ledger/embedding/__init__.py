"""Looking at a collection apart from the ledger that it is for: on one machine or on many, before it is indexed.

sources   what there is to look at, in parts that one task reads: folders, lists, Parquet, tar files, local or not
steps     read and describe, encode, write: three functions over Arrow tables, and the loop that calls them here
on_ray    the same three functions called by Ray Data
parts     the Parquet files that come out, and go into Postgres by `ledger.catalog.index_embedded`
"""
