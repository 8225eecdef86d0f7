CREATE TABLE opinions (
	id SERIAL NOT NULL,
	model VARCHAR NOT NULL,
	version VARCHAR NOT NULL,
	model_hash VARCHAR NOT NULL,
	evidence_hash VARCHAR NOT NULL,
	word VARCHAR NOT NULL,
	by VARCHAR NOT NULL,
	why VARCHAR NOT NULL,
	at VARCHAR NOT NULL,
	PRIMARY KEY (id)
);
CREATE TABLE promotions (
	id SERIAL NOT NULL,
	model VARCHAR NOT NULL,
	number INTEGER NOT NULL,
	version VARCHAR NOT NULL,
	model_hash VARCHAR NOT NULL,
	evidence_hash VARCHAR NOT NULL,
	before VARCHAR,
	by VARCHAR NOT NULL,
	why VARCHAR NOT NULL,
	at VARCHAR NOT NULL,
	PRIMARY KEY (id),
	UNIQUE (model, number)
);
CREATE TABLE predictions (
	id VARCHAR NOT NULL,
	model VARCHAR NOT NULL,
	version VARCHAR NOT NULL,
	model_hash VARCHAR NOT NULL,
	request VARCHAR NOT NULL,
	body VARCHAR NOT NULL,
	key VARCHAR NOT NULL,
	moment VARCHAR,
	score DOUBLE PRECISION NOT NULL,
	decision DOUBLE PRECISION,
	features VARCHAR NOT NULL,
	origin VARCHAR NOT NULL,
	at VARCHAR NOT NULL,
	PRIMARY KEY (id)
);
CREATE INDEX predictions_by_moment ON predictions (model, moment);
CREATE INDEX predictions_by_key ON predictions (model, key);
CREATE TABLE labels (
	id SERIAL NOT NULL,
	model VARCHAR NOT NULL,
	prediction VARCHAR NOT NULL,
	value DOUBLE PRECISION,
	said VARCHAR NOT NULL,
	known VARCHAR NOT NULL,
	origin VARCHAR NOT NULL,
	word VARCHAR NOT NULL,
	at VARCHAR NOT NULL,
	counts BOOLEAN NOT NULL,
	PRIMARY KEY (id)
);
CREATE UNIQUE INDEX one_label_counts ON labels (prediction) WHERE counts;
CREATE INDEX labels_by_word ON labels (model, word);
CREATE TABLE windows (
	id SERIAL NOT NULL,
	model VARCHAR NOT NULL,
	start VARCHAR NOT NULL,
	"end" VARCHAR NOT NULL,
	version VARCHAR NOT NULL,
	looked_at VARCHAR NOT NULL,
	looked VARCHAR NOT NULL,
	settled_at VARCHAR,
	settled VARCHAR,
	PRIMARY KEY (id),
	UNIQUE (model, start)
);
CREATE TABLE incidents (
	id SERIAL NOT NULL,
	model VARCHAR NOT NULL,
	cause VARCHAR NOT NULL,
	severity VARCHAR NOT NULL,
	title VARCHAR NOT NULL,
	sentence VARCHAR NOT NULL,
	opened VARCHAR NOT NULL,
	updated VARCHAR NOT NULL,
	windows INTEGER NOT NULL,
	closed VARCHAR,
	ended VARCHAR NOT NULL,
	seen_by VARCHAR,
	seen_at VARCHAR,
	seen_why VARCHAR,
	PRIMARY KEY (id)
);
CREATE UNIQUE INDEX one_open_incident ON incidents (model, cause) WHERE closed IS NULL;
CREATE TABLE retrainings (
	id SERIAL NOT NULL,
	model VARCHAR NOT NULL,
	moment VARCHAR NOT NULL,
	action VARCHAR NOT NULL,
	reason VARCHAR NOT NULL,
	by VARCHAR NOT NULL,
	at VARCHAR NOT NULL,
	state VARCHAR NOT NULL,
	run VARCHAR NOT NULL,
	PRIMARY KEY (id),
	UNIQUE (model, moment, by)
);
CREATE TABLE watch (
	model VARCHAR NOT NULL,
	since VARCHAR NOT NULL,
	upto VARCHAR NOT NULL,
	at VARCHAR NOT NULL,
	PRIMARY KEY (model)
);
