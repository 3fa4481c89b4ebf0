-- The tables of prefect-lume at revision 0004, for mysql.
-- Made by: prefect-lume db schema --dialect mysql

CREATE TABLE lume_schema_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT lume_schema_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

CREATE TABLE model (
    model_id INTEGER NOT NULL AUTO_INCREMENT,
    author VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    laboratory VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    facility VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    beampath VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    description VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    created DATETIME(6) NOT NULL,
    fingerprint CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    CONSTRAINT pk_model PRIMARY KEY (model_id),
    CONSTRAINT uq_model_fingerprint UNIQUE (fingerprint)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE deployment (
    deployment_id INTEGER NOT NULL AUTO_INCREMENT,
    model_id INTEGER NOT NULL,
    version VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    deploy_date DATETIME(6) NOT NULL,
    package_import_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    asset_dir VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    source MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    sha256 CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    image VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    is_live BOOL NOT NULL,
    entrypoints JSON,
    `lock` MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    live_model_id INTEGER GENERATED ALWAYS AS (CASE WHEN is_live THEN model_id ELSE NULL END) STORED,
    CONSTRAINT pk_deployment PRIMARY KEY (deployment_id),
    CONSTRAINT uq_deployment_model_id_version UNIQUE (model_id, version),
    CONSTRAINT uq_deployment_live_model_id UNIQUE (live_model_id),
    CONSTRAINT fk_deployment_model_id FOREIGN KEY(model_id) REFERENCES model (model_id)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE project (
    project_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    description MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    created DATETIME(6) NOT NULL,
    CONSTRAINT pk_project PRIMARY KEY (project_name)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE flow (
    flow_id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    flow_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    project_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    deployment_id INTEGER,
    composition JSON,
    created DATETIME(6) NOT NULL,
    CONSTRAINT pk_flow PRIMARY KEY (flow_id),
    CONSTRAINT uq_flow_project_name_flow_name UNIQUE (project_name, flow_name),
    CONSTRAINT fk_flow_project_name FOREIGN KEY(project_name) REFERENCES project (project_name),
    CONSTRAINT fk_flow_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployment (deployment_id),
    INDEX ix_flow_deployment_id (deployment_id)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE flow_of_flows (
    id INTEGER NOT NULL AUTO_INCREMENT,
    parent_flow_id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    flow_id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    position INTEGER NOT NULL,
    name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    mapped_parameters JSON NOT NULL,
    parameters JSON NOT NULL,
    options JSON NOT NULL,
    CONSTRAINT pk_flow_of_flows PRIMARY KEY (id),
    CONSTRAINT ck_flow_of_flows_position CHECK (position >= 1),
    CONSTRAINT uq_flow_of_flows_parent_flow_id_name UNIQUE (parent_flow_id, name),
    CONSTRAINT fk_flow_of_flows_parent_flow_id FOREIGN KEY(parent_flow_id) REFERENCES flow (flow_id) ON DELETE CASCADE,
    CONSTRAINT fk_flow_of_flows_flow_id FOREIGN KEY(flow_id) REFERENCES flow (flow_id),
    INDEX ix_flow_of_flows_flow_id (flow_id)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE result (
    collection VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    unique_hash CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    result_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    flow_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    flow_run_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    deployment_id INTEGER,
    date_modified CHAR(27) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    document LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    CONSTRAINT pk_result PRIMARY KEY (collection, unique_hash),
    INDEX ix_result_date_modified (collection, date_modified, unique_hash),
    INDEX ix_result_deployment_id (collection, deployment_id),
    INDEX ix_result_flow_id (collection, flow_id),
    INDEX ix_result_flow_run_id (collection, flow_run_id),
    INDEX ix_result_result_type (collection, result_type)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE result_index (
    name CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    result_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    fields TEXT NOT NULL,
    is_unique BOOL NOT NULL,
    ready BOOL NOT NULL,
    CONSTRAINT pk_result_index PRIMARY KEY (name)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE result_index_key (
    collection VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    name CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    key_hash CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    guard CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    unique_hash CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    CONSTRAINT pk_result_index_key PRIMARY KEY (collection, name, key_hash, guard),
    CONSTRAINT fk_result_index_key_name FOREIGN KEY(name) REFERENCES result_index (name) ON DELETE CASCADE,
    INDEX ix_result_index_key_unique_hash (collection, unique_hash)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE `blob` (
    sha256 CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    size BIGINT NOT NULL,
    chunks INTEGER NOT NULL,
    created CHAR(27) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    CONSTRAINT pk_blob PRIMARY KEY (sha256)
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE blob_chunk (
    sha256 CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    n INTEGER NOT NULL,
    data LONGBLOB NOT NULL,
    CONSTRAINT pk_blob_chunk PRIMARY KEY (sha256, n),
    CONSTRAINT fk_blob_chunk_sha256 FOREIGN KEY(sha256) REFERENCES `blob` (sha256) ON DELETE CASCADE
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO lume_schema_version (version_num) VALUES ('0001');

-- Running upgrade 0001 -> 0002

ALTER TABLE result_index ADD COLUMN options TEXT NOT NULL DEFAULT ('{}');

ALTER TABLE `blob` ADD COLUMN encoding VARCHAR(16) NOT NULL DEFAULT '';

CREATE TABLE blob_upload (
    id CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    sha256 CHAR(64) CHARACTER SET ascii COLLATE ascii_bin,
    renewed CHAR(27) CHARACTER SET ascii COLLATE ascii_bin,
    CONSTRAINT pk_blob_upload PRIMARY KEY (id),
    CONSTRAINT fk_blob_upload_sha256 FOREIGN KEY(sha256) REFERENCES `blob` (sha256) ON DELETE CASCADE
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE blob_upload_chunk (
    upload CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    n INTEGER NOT NULL,
    data LONGBLOB NOT NULL,
    CONSTRAINT pk_blob_upload_chunk PRIMARY KEY (upload, n),
    CONSTRAINT fk_blob_upload_chunk_upload FOREIGN KEY(upload) REFERENCES blob_upload (id) ON DELETE CASCADE
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE result_blob (
    collection VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    unique_hash CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    sha256 CHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    CONSTRAINT pk_result_blob PRIMARY KEY (collection, unique_hash, sha256),
    CONSTRAINT fk_result_blob_collection FOREIGN KEY(collection, unique_hash) REFERENCES result (collection, unique_hash) ON DELETE CASCADE,
    CONSTRAINT fk_result_blob_sha256 FOREIGN KEY(sha256) REFERENCES `blob` (sha256) ON DELETE RESTRICT
)ENGINE=InnoDB CHARSET=utf8mb4 COLLATE utf8mb4_bin;

CREATE INDEX ix_result_blob_sha256 ON result_blob (sha256);

CREATE UNIQUE INDEX ix_blob_upload_sha256 ON blob_upload (sha256);

UPDATE lume_schema_version SET version_num='0002' WHERE lume_schema_version.version_num = '0001';

-- Running upgrade 0002 -> 0003

CREATE TABLE pipeline_run (
    run_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    CONSTRAINT pk_pipeline_run PRIMARY KEY (run_id)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE pipeline_execution (
    id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    run_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    parent_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    status VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    message MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    created DATETIME(6),
    started DATETIME(6),
    completed DATETIME(6),
    closed BOOL NOT NULL,
    superseded BOOL NOT NULL,
    last_at DATETIME(6),
    state_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    state_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    state_at DATETIME(6),
    pipeline_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    run_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    input_data MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    flow_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    project_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    deployment_id INTEGER,
    prefect_deployment_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    parent_run_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    runner VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    is_mapped BOOL NOT NULL,
    last_seen DATETIME(6),
    ran_at DATETIME(6) GENERATED ALWAYS AS (coalesce(started, created)) STORED,
    CONSTRAINT pk_pipeline_execution PRIMARY KEY (id),
    CONSTRAINT fk_pipeline_execution_run_id FOREIGN KEY(run_id) REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    INDEX ix_pipeline_execution_created (created),
    INDEX ix_pipeline_execution_deployment_id (deployment_id, created),
    INDEX ix_pipeline_execution_flow_id (flow_id, created),
    INDEX ix_pipeline_execution_parent_run_id (parent_run_id),
    INDEX ix_pipeline_execution_pipeline_id (pipeline_id, created),
    INDEX ix_pipeline_execution_project_name (project_name, created),
    INDEX ix_pipeline_execution_ran_at (ran_at),
    INDEX ix_pipeline_execution_run_id (run_id),
    INDEX ix_pipeline_execution_state_type (state_type),
    INDEX ix_pipeline_execution_status (status, created)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE pipeline_result (
    id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    run_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    parent_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    status VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    message MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    created DATETIME(6),
    started DATETIME(6),
    completed DATETIME(6),
    closed BOOL NOT NULL,
    superseded BOOL NOT NULL,
    last_at DATETIME(6),
    state_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    state_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    state_at DATETIME(6),
    pipeline_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    `index` INTEGER NOT NULL,
    pipeline_object MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    flow_run_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    flow_run_at DATETIME(6),
    again_at DATETIME(6),
    runner VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    reporter VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    CONSTRAINT pk_pipeline_result PRIMARY KEY (id),
    CONSTRAINT fk_pipeline_result_run_id FOREIGN KEY(run_id) REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    INDEX ix_pipeline_result_below (parent_id, superseded, status, started, completed, last_at),
    INDEX ix_pipeline_result_flow_run_id (flow_run_id),
    INDEX ix_pipeline_result_pipeline_id (pipeline_id, started),
    INDEX ix_pipeline_result_run_id (run_id),
    INDEX ix_pipeline_result_state_type (state_type)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE task_execution (
    id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    run_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    parent_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    status VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    message MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    created DATETIME(6),
    started DATETIME(6),
    completed DATETIME(6),
    closed BOOL NOT NULL,
    superseded BOOL NOT NULL,
    last_at DATETIME(6),
    state_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    state_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    state_at DATETIME(6),
    pipeline_task VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    task_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    config MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    CONSTRAINT pk_task_execution PRIMARY KEY (id),
    CONSTRAINT fk_task_execution_run_id FOREIGN KEY(run_id) REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    INDEX ix_task_execution_below (parent_id, superseded, status, started, completed, last_at),
    INDEX ix_task_execution_pipeline_task (pipeline_task),
    INDEX ix_task_execution_run_id (run_id),
    INDEX ix_task_execution_task_id (task_id)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE task_result (
    id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    run_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    parent_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    status VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    message MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    created DATETIME(6),
    started DATETIME(6),
    completed DATETIME(6),
    closed BOOL NOT NULL,
    superseded BOOL NOT NULL,
    last_at DATETIME(6),
    state_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    state_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    state_at DATETIME(6),
    pipeline_result_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    `index` INTEGER,
    task_object MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    run_count INTEGER NOT NULL,
    CONSTRAINT pk_task_result PRIMARY KEY (id),
    CONSTRAINT fk_task_result_run_id FOREIGN KEY(run_id) REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    INDEX ix_task_result_below (parent_id, superseded, status, started, completed, last_at),
    INDEX ix_task_result_pipeline_result_id (pipeline_result_id),
    INDEX ix_task_result_run_id (run_id)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE pipeline_state (
    target VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    run_id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    kind VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    status VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    timestamp DATETIME(6) NOT NULL,
    message MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    state_type VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    state_name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    run_count INTEGER,
    inferred BOOL NOT NULL,
    CONSTRAINT pk_pipeline_state PRIMARY KEY (target, id),
    CONSTRAINT fk_pipeline_state_run_id FOREIGN KEY(run_id) REFERENCES pipeline_run (run_id) ON DELETE CASCADE,
    INDEX ix_pipeline_state_run_id (run_id)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE pipeline_digest (
    pipeline_id VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    success BIGINT NOT NULL,
    failure BIGINT NOT NULL,
    unfinished BIGINT NOT NULL,
    runtime BIGINT NOT NULL,
    runtimes BIGINT NOT NULL,
    CONSTRAINT pk_pipeline_digest PRIMARY KEY (pipeline_id)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE recorder_position (
    source VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    position DATETIME(6) NOT NULL,
    CONSTRAINT pk_recorder_position PRIMARY KEY (source)
)ENGINE=InnoDB CHARSET=utf8mb4;

UPDATE lume_schema_version SET version_num='0003' WHERE lume_schema_version.version_num = '0002';

-- Running upgrade 0003 -> 0004

ALTER TABLE model ADD COLUMN revision INTEGER NOT NULL DEFAULT '0';

ALTER TABLE model ADD COLUMN search_text MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;

ALTER TABLE project ADD COLUMN history_id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;

ALTER TABLE project ADD COLUMN revision INTEGER NOT NULL DEFAULT '0';

ALTER TABLE deployment ADD COLUMN description VARCHAR(4000) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL DEFAULT '';

ALTER TABLE deployment ADD COLUMN retired DATETIME(6);

ALTER TABLE deployment ADD COLUMN parent_deployment_id INTEGER;

ALTER TABLE deployment ADD COLUMN search_text MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin;

CREATE INDEX ix_deployment_deploy_date ON deployment (deploy_date);

CREATE INDEX ix_deployment_parent_deployment_id ON deployment (parent_deployment_id);

CREATE INDEX ix_deployment_sha256 ON deployment (sha256);

CREATE INDEX ix_flow_flow_name ON flow (flow_name);

CREATE UNIQUE INDEX ix_project_history_id ON project (history_id);

CREATE TABLE deployment_lock (
    deployment_id INTEGER NOT NULL,
    `lock` MEDIUMTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    CONSTRAINT pk_deployment_lock PRIMARY KEY (deployment_id),
    CONSTRAINT fk_deployment_lock_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployment (deployment_id) ON DELETE CASCADE
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE deployment_alias (
    model_id INTEGER NOT NULL,
    alias VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    deployment_id INTEGER NOT NULL,
    CONSTRAINT pk_deployment_alias PRIMARY KEY (model_id, alias),
    CONSTRAINT fk_deployment_alias_model_id FOREIGN KEY(model_id) REFERENCES model (model_id) ON DELETE CASCADE,
    CONSTRAINT fk_deployment_alias_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployment (deployment_id) ON DELETE CASCADE,
    INDEX ix_deployment_alias_alias (alias),
    INDEX ix_deployment_alias_deployment_id (deployment_id)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE deployment_tag (
    deployment_id INTEGER NOT NULL,
    `key` VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    value VARCHAR(5000) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    value_start VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    CONSTRAINT pk_deployment_tag PRIMARY KEY (deployment_id, `key`),
    CONSTRAINT fk_deployment_tag_deployment_id FOREIGN KEY(deployment_id) REFERENCES deployment (deployment_id) ON DELETE CASCADE,
    INDEX ix_deployment_tag_key_value_start (`key`, value_start)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE model_tag (
    model_id INTEGER NOT NULL,
    `key` VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    value VARCHAR(5000) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    value_start VARCHAR(120) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    CONSTRAINT pk_model_tag PRIMARY KEY (model_id, `key`),
    CONSTRAINT fk_model_tag_model_id FOREIGN KEY(model_id) REFERENCES model (model_id) ON DELETE CASCADE,
    INDEX ix_model_tag_key_value_start (`key`, value_start)
)ENGINE=InnoDB CHARSET=utf8mb4;

CREATE TABLE registry_event (
    event_id BIGINT NOT NULL AUTO_INCREMENT,
    subject VARCHAR(16) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    subject_id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    number INTEGER NOT NULL,
    kind VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    deployment_id INTEGER,
    previous_deployment_id INTEGER,
    flow_id VARCHAR(36) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin,
    happened DATETIME(6) NOT NULL,
    actor VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    reason VARCHAR(4000) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    value_before JSON,
    value_after JSON,
    change_id VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL,
    CONSTRAINT pk_registry_event PRIMARY KEY (event_id),
    CONSTRAINT uq_registry_event_subject_subject_id_number UNIQUE (subject, subject_id, number),
    INDEX ix_registry_event_change_id (change_id),
    INDEX ix_registry_event_deployment_id (deployment_id),
    INDEX ix_registry_event_flow_id (flow_id),
    INDEX ix_registry_event_previous_deployment_id (previous_deployment_id)
)ENGINE=InnoDB CHARSET=utf8mb4;

INSERT INTO deployment_lock (deployment_id, `lock`) SELECT deployment.deployment_id, deployment.`lock`
FROM deployment
WHERE deployment.`lock` IS NOT NULL AND NOT (EXISTS (SELECT deployment_lock.deployment_id
FROM deployment_lock
WHERE deployment_lock.deployment_id = deployment.deployment_id));

ALTER TABLE deployment DROP COLUMN `lock`;

UPDATE lume_schema_version SET version_num='0004' WHERE lume_schema_version.version_num = '0003';
