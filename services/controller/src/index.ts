export { createRunActivities } from "./activities/run-activities.ts";
