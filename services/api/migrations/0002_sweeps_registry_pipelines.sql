CREATE TABLE "evaluation_suites" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"spec" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "model_aliases" (
	"name" text NOT NULL,
	"alias" text NOT NULL,
	"version" integer NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_by" text NOT NULL,
	CONSTRAINT "model_aliases_name_alias_pk" PRIMARY KEY("name","alias")
);
--> statement-breakpoint
CREATE TABLE "model_events" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "model_events_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"name" text NOT NULL,
	"version" integer NOT NULL,
	"key" text NOT NULL,
	"time" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"actor" text NOT NULL,
	"type" text NOT NULL,
	"from_value" text,
	"to_value" text,
	"message" text NOT NULL,
	CONSTRAINT "model_events_key_unique" UNIQUE("key")
);
--> statement-breakpoint
CREATE TABLE "observations" (
	"id" text PRIMARY KEY NOT NULL,
	"model_name" text NOT NULL,
	"model_version" integer NOT NULL,
	"key" text NOT NULL,
	"time" timestamp (3) with time zone NOT NULL,
	"task" text NOT NULL,
	"body" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "observations_key" UNIQUE("model_name","model_version","key")
);
--> statement-breakpoint
CREATE TABLE "pipeline_events" (
	"pipeline_run_id" text NOT NULL,
	"sequence" integer NOT NULL,
	"key" text NOT NULL,
	"time" timestamp (3) with time zone NOT NULL,
	"actor" text NOT NULL,
	"step" text,
	"type" text NOT NULL,
	"message" text NOT NULL,
	"data" jsonb,
	CONSTRAINT "pipeline_events_pipeline_run_id_sequence_pk" PRIMARY KEY("pipeline_run_id","sequence"),
	CONSTRAINT "pipeline_events_key" UNIQUE("pipeline_run_id","key")
);
--> statement-breakpoint
CREATE TABLE "pipeline_runs" (
	"id" text PRIMARY KEY NOT NULL,
	"pipeline_id" text NOT NULL,
	"number" integer NOT NULL,
	"state" text NOT NULL,
	"message" text NOT NULL,
	"trigger_key" text NOT NULL,
	"trigger" jsonb NOT NULL,
	"spec" jsonb NOT NULL,
	"results" jsonb NOT NULL,
	"revision" integer DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"ended_at" timestamp (3) with time zone,
	CONSTRAINT "pipeline_runs_number" UNIQUE("pipeline_id","number"),
	CONSTRAINT "pipeline_runs_trigger" UNIQUE("pipeline_id","trigger_key")
);
--> statement-breakpoint
CREATE TABLE "pipelines" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"state" text NOT NULL,
	"spec" jsonb NOT NULL,
	"scheduled_until" timestamp (3) with time zone,
	"last_number" integer DEFAULT 0 NOT NULL,
	"revision" integer DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "pipelines_name_unique" UNIQUE("name")
);
--> statement-breakpoint
CREATE TABLE "retention_rules" (
	"name" text PRIMARY KEY NOT NULL,
	"rule" jsonb NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "sweep_trials" (
	"sweep_id" text NOT NULL,
	"number" integer NOT NULL,
	"run_id" text,
	"state" text NOT NULL,
	"message" text NOT NULL,
	"parameters" jsonb NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "sweep_trials_sweep_id_number_pk" PRIMARY KEY("sweep_id","number")
);
--> statement-breakpoint
CREATE TABLE "sweeps" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"state" text NOT NULL,
	"message" text NOT NULL,
	"spec" jsonb NOT NULL,
	"max_parallel" integer NOT NULL,
	"parent" jsonb,
	"revision" integer DEFAULT 1 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"ended_at" timestamp (3) with time zone
);
--> statement-breakpoint
ALTER TABLE "evaluations" ADD COLUMN "suite_id" text;--> statement-breakpoint
ALTER TABLE "evaluations" ADD COLUMN "details" jsonb;--> statement-breakpoint
ALTER TABLE "models" ADD COLUMN "stage" text DEFAULT 'candidate' NOT NULL;--> statement-breakpoint
ALTER TABLE "models" ADD COLUMN "notes" text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE "models" ADD COLUMN "manifest" jsonb;--> statement-breakpoint
ALTER TABLE "models" ADD COLUMN "revision" integer DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE "models" ADD COLUMN "files_removed_at" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "runs" ADD COLUMN "parent" jsonb;--> statement-breakpoint
ALTER TABLE "pipeline_events" ADD CONSTRAINT "pipeline_events_pipeline_run_id_pipeline_runs_id_fk" FOREIGN KEY ("pipeline_run_id") REFERENCES "public"."pipeline_runs"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "pipeline_runs" ADD CONSTRAINT "pipeline_runs_pipeline_id_pipelines_id_fk" FOREIGN KEY ("pipeline_id") REFERENCES "public"."pipelines"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "sweep_trials" ADD CONSTRAINT "sweep_trials_sweep_id_sweeps_id_fk" FOREIGN KEY ("sweep_id") REFERENCES "public"."sweeps"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "sweep_trials" ADD CONSTRAINT "sweep_trials_run_id_runs_id_fk" FOREIGN KEY ("run_id") REFERENCES "public"."runs"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "model_events_model" ON "model_events" USING btree ("name","version","id");--> statement-breakpoint
CREATE INDEX "observations_model" ON "observations" USING btree ("model_name","model_version","time");--> statement-breakpoint
CREATE INDEX "pipeline_runs_state" ON "pipeline_runs" USING btree ("state");--> statement-breakpoint
CREATE INDEX "sweep_trials_run" ON "sweep_trials" USING btree ("run_id");--> statement-breakpoint
ALTER TABLE "evaluations" ADD CONSTRAINT "evaluations_suite_id_evaluation_suites_id_fk" FOREIGN KEY ("suite_id") REFERENCES "public"."evaluation_suites"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "evaluations_suite" ON "evaluations" USING btree ("suite_id");