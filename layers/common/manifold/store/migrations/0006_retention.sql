-- The cost of a key's calls whose rows have been deleted, so that the key's spend stays the same.

CREATE TABLE past_spend (
    key_id  text    PRIMARY KEY REFERENCES api_keys (id),
    cost    numeric NOT NULL                            -- in US dollars
);
