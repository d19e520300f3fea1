CREATE TABLE "cluster_reports" (
	"id" text PRIMARY KEY NOT NULL,
	"report" jsonb NOT NULL,
	"received_at" timestamp (3) with time zone NOT NULL
);
