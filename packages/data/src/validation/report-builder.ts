import type { ValidationIssue, ValidationReport } from "@drydock/spec";

/** Most findings that a report lists; its counts are of all. */
const maxListedIssues = 1000;

/** Collects the findings of one import; memory does not grow with their number. */
export class ReportBuilder {
  readonly #issues: ValidationIssue[] = [];
  readonly #byCode = new Map<string, number>();
  #errors = 0;
  #warnings = 0;
  rowsRead = 0;
  rowsAccepted = 0;

  add(issue: ValidationIssue): void {
    if (issue.severity === "error") this.#errors += 1;
    else this.#warnings += 1;
    this.#byCode.set(issue.code, (this.#byCode.get(issue.code) ?? 0) + 1);
    if (this.#issues.length < maxListedIssues) this.#issues.push(issue);
  }

  get issues(): readonly ValidationIssue[] {
    return this.#issues;
  }

  build(): ValidationReport {
    return {
      rowsRead: this.rowsRead,
      rowsAccepted: this.rowsAccepted,
      errors: this.#errors,
      warnings: this.#warnings,
      issues: [...this.#issues],
      byCode: Object.fromEntries([...this.#byCode].toSorted(([a], [b]) => (a < b ? -1 : 1))),
    };
  }
}
