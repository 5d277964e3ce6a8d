-- Facts: appended, never changed.

CREATE TABLE "audit_entry" (
    "index" BIGINT NOT NULL,
    "kind" TEXT NOT NULL,
    "study" TEXT,
    "leaf" TEXT NOT NULL,
    "leaf_hash" BYTEA NOT NULL,
    CONSTRAINT "audit_entry_pkey" PRIMARY KEY ("index")
);
CREATE INDEX "audit_entry_study_index_idx" ON "audit_entry"("study", "index");

CREATE TABLE "audit_checkpoint" (
    "size" BIGINT NOT NULL,
    "number" BIGINT NOT NULL,
    "note" TEXT NOT NULL,
    CONSTRAINT "audit_checkpoint_pkey" PRIMARY KEY ("size")
);
CREATE UNIQUE INDEX "audit_checkpoint_number_key" ON "audit_checkpoint"("number");

-- Projections of the facts.

CREATE TABLE "site" (
    "site" TEXT NOT NULL,
    "status" TEXT NOT NULL,
    "public_key" TEXT NOT NULL,
    "invitation" TEXT NOT NULL,
    "enrolled_at_ms" BIGINT NOT NULL,
    CONSTRAINT "site_pkey" PRIMARY KEY ("site")
);
CREATE UNIQUE INDEX "site_public_key_key" ON "site"("public_key");

CREATE TABLE "invitation" (
    "invitation" TEXT NOT NULL,
    "site" TEXT NOT NULL,
    "expires_at_ms" BIGINT NOT NULL,
    "used" BOOLEAN NOT NULL,
    CONSTRAINT "invitation_pkey" PRIMARY KEY ("invitation")
);

CREATE TABLE "study" (
    "study" TEXT NOT NULL,
    "plan" TEXT,
    "phase" TEXT NOT NULL,
    "round" INTEGER NOT NULL,
    "completed_rounds" INTEGER NOT NULL,
    "deadline_ms" BIGINT NOT NULL,
    "last" TEXT,
    "best" TEXT,
    "best_mean_dice" DOUBLE PRECISION,
    "released" TEXT,
    CONSTRAINT "study_pkey" PRIMARY KEY ("study")
);

CREATE TABLE "plan_approval" (
    "study" TEXT NOT NULL,
    "site" TEXT NOT NULL,
    "examples" INTEGER NOT NULL,
    "withdrawn" BOOLEAN NOT NULL,
    CONSTRAINT "plan_approval_pkey" PRIMARY KEY ("study", "site")
);

CREATE TABLE "round" (
    "study" TEXT NOT NULL,
    "round" INTEGER NOT NULL,
    "base_version" TEXT NOT NULL,
    "deadline_ms" BIGINT NOT NULL,
    "status" TEXT NOT NULL,
    "sites" TEXT[],
    CONSTRAINT "round_pkey" PRIMARY KEY ("study", "round")
);

-- The primary key is the last line of defence: a site counts once in a round, whatever the program believes.
CREATE TABLE "round_update" (
    "study" TEXT NOT NULL,
    "round" INTEGER NOT NULL,
    "site" TEXT NOT NULL,
    "delta" TEXT NOT NULL,
    "update" TEXT NOT NULL,
    "examples" INTEGER NOT NULL,
    CONSTRAINT "round_update_pkey" PRIMARY KEY ("study", "round", "site")
);

CREATE TABLE "refusal" (
    "index" BIGINT NOT NULL,
    "study" TEXT,
    "round" INTEGER,
    "site" TEXT NOT NULL,
    "code" TEXT NOT NULL,
    "document" TEXT NOT NULL,
    CONSTRAINT "refusal_pkey" PRIMARY KEY ("index")
);

CREATE TABLE "model_version" (
    "version" TEXT NOT NULL,
    "study" TEXT NOT NULL,
    "round" INTEGER NOT NULL,
    "parent" TEXT,
    "contributors" TEXT[],
    "weights_sha256" TEXT NOT NULL,
    "weights_bytes" BIGINT NOT NULL,
    "judged" TEXT NOT NULL,
    "mean_dice" DOUBLE PRECISION,
    "withdrawn" BOOLEAN NOT NULL,
    CONSTRAINT "model_version_pkey" PRIMARY KEY ("version")
);
CREATE INDEX "model_version_study_round_idx" ON "model_version"("study", "round");

CREATE TABLE "evaluation" (
    "version" TEXT NOT NULL,
    "site" TEXT NOT NULL,
    "mean_dice" DOUBLE PRECISION,
    CONSTRAINT "evaluation_pkey" PRIMARY KEY ("version", "site")
);

-- Ephemeral: what expires within the hour.

CREATE TABLE "challenge" (
    "challenge" TEXT NOT NULL,
    "site" TEXT NOT NULL,
    "expires_at_ms" BIGINT NOT NULL,
    CONSTRAINT "challenge_pkey" PRIMARY KEY ("challenge")
);
CREATE INDEX "challenge_expires_at_ms_idx" ON "challenge"("expires_at_ms");

CREATE TABLE "site_session" (
    "token_sha256" TEXT NOT NULL,
    "site" TEXT NOT NULL,
    "expires_at_ms" BIGINT NOT NULL,
    CONSTRAINT "site_session_pkey" PRIMARY KEY ("token_sha256")
);
CREATE INDEX "site_session_expires_at_ms_idx" ON "site_session"("expires_at_ms");

-- Append-only by trigger: also for the owner, who would have to drop the trigger first.

CREATE FUNCTION "refuse_change"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'append-only: % on % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END;
$$;
CREATE TRIGGER "audit_entry_append_only" BEFORE UPDATE OR DELETE OR TRUNCATE ON "audit_entry"
    FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"();
CREATE TRIGGER "audit_checkpoint_append_only" BEFORE UPDATE OR DELETE OR TRUNCATE ON "audit_checkpoint"
    FOR EACH STATEMENT EXECUTE FUNCTION "refuse_change"();

-- The running coordinator is not the owner: it may append facts, and nothing else to them.

DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'consilium_runtime') THEN
        CREATE ROLE "consilium_runtime" NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- Another database of this server is being set up at the same moment.
END;
$$;
GRANT SELECT, INSERT ON "audit_entry", "audit_checkpoint" TO "consilium_runtime";
GRANT SELECT, INSERT, UPDATE ON
    "site", "invitation", "study", "plan_approval", "round", "round_update", "refusal", "model_version", "evaluation"
    TO "consilium_runtime";
GRANT SELECT, INSERT, DELETE ON "challenge", "site_session" TO "consilium_runtime";
