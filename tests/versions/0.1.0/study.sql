BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE optuna_spark_leases (
	study_key VARCHAR(64) NOT NULL, 
	study TEXT NOT NULL, 
	dag_id VARCHAR(250) NOT NULL, 
	run_id VARCHAR(250) NOT NULL, 
	made VARCHAR(40) NOT NULL, 
	since_s BIGINT NOT NULL, 
	renewed_s BIGINT NOT NULL, 
	busy BOOLEAN NOT NULL, 
	version BIGINT NOT NULL, 
	PRIMARY KEY (study_key)
);
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'kept');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MINIMIZE',1,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_system_attributes" VALUES(1,1,'optuna_spark:runs','[["manual__2026-11-27T22:19:12.481734+00:00.50c91983", "5e02e21c4d629083c99e7ed50506c0e5"]]');
INSERT INTO "study_system_attributes" VALUES(2,1,'optuna_spark:former_runs','[]');
INSERT INTO "study_system_attributes" VALUES(3,1,'optuna_spark:writer','{"run_id": "manual__2026-11-27T22:19:12.481734+00:00.50c91983", "token": "81423115725846f8", "group": 4}');
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'x',-1.65955990594851954256e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": -10.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(2,2,'x',4.40648986884316151702e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": -10.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(3,3,'x',-9.99771250365310137908e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": -10.0, "high": 10.0, "log": false}}');
INSERT INTO "trial_params" VALUES(4,4,'x',-3.95334854736320462365e+00,'{"name": "FloatDistribution", "attributes": {"step": null, "low": -10.0, "high": 10.0, "log": false}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'run_id','"manual__2026-11-27T22:19:12.481734+00:00.50c91983"');
INSERT INTO "trial_user_attributes" VALUES(2,1,'worker','"vm:8368"');
INSERT INTO "trial_user_attributes" VALUES(3,2,'run_id','"manual__2026-11-27T22:19:12.481734+00:00.50c91983"');
INSERT INTO "trial_user_attributes" VALUES(4,2,'worker','"vm:8368"');
INSERT INTO "trial_user_attributes" VALUES(5,3,'run_id','"manual__2026-11-27T22:19:12.481734+00:00.50c91983"');
INSERT INTO "trial_user_attributes" VALUES(6,3,'worker','"vm:8368"');
INSERT INTO "trial_user_attributes" VALUES(7,4,'run_id','"manual__2026-11-27T22:19:12.481734+00:00.50c91983"');
INSERT INTO "trial_user_attributes" VALUES(8,4,'worker','"vm:8368"');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,1.33923787052259370968e+01,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,5.79119348884477691541e+00,'FINITE');
INSERT INTO "trial_values" VALUES(3,3,0,1.43945105320313956548e+02,'FINITE');
INSERT INTO "trial_values" VALUES(4,4,0,3.54423589263915772562e+01,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-27 22:19:41.526268','2026-11-27 22:19:41.528766');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-27 22:19:41.528671','2026-11-27 22:19:41.544710');
INSERT INTO "trials" VALUES(3,2,1,'COMPLETE','2026-11-27 22:19:41.544534','2026-11-27 22:19:41.559360');
INSERT INTO "trials" VALUES(4,3,1,'COMPLETE','2026-11-27 22:19:41.559154','2026-11-27 22:19:41.596921');
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
