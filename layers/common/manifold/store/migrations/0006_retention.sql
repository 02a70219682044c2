-- What the calls of a key cost whose rows have been deleted, so that its spend stays what it was.

CREATE TABLE past_spend (
    key_id  text    PRIMARY KEY REFERENCES api_keys (id),
    cost    numeric NOT NULL                            -- in US dollars
);
