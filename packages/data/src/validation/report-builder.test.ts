import { expect, test } from "vitest";
import { ReportBuilder } from "./report-builder.ts";

test("a report lists a thousand findings, errors first, and counts them all", () => {
  const report = new ReportBuilder();
  for (let row = 1; row <= 1500; row++)
    report.add({ severity: "warning", code: "duplicate_row", file: "a.jsonl", row, path: null, message: "twice" });
  report.add({ severity: "error", code: "broken_json", file: "a.jsonl", row: 1501, path: null, message: "broken" });
  const { issues, errors, warnings, byCode } = report.build();
  expect(issues).toHaveLength(1000);
  expect(issues[0]).toMatchObject({ code: "broken_json", row: 1501 });
  expect({ errors, warnings, byCode }).toEqual({
    errors: 1,
    warnings: 1500,
    byCode: { broken_json: 1, duplicate_row: 1500 },
  });
});
