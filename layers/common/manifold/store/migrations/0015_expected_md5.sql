-- The sum that a client sends with its complete of an upload, which the worker compares.

ALTER TABLE uploads ADD COLUMN expected_md5 text;       -- in hex, lower case; null: none was sent
