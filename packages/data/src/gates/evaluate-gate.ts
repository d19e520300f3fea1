import { InvalidError } from "@drydock/kit";
import type { Task } from "@drydock/spec";
import { scoreSamples } from "../metrics/score-samples.ts";
import { compareEvaluations } from "../statistics/compare-evaluations.ts";
import { pairSamples, type IdentifiedSample } from "../statistics/paired-samples.ts";
import { asCountedIn, isInSlice, resolveSlice, sliceNamesOf } from "../statistics/slices.ts";
import { explainGateRule, type GateBound, type GateComparison, type GateRule } from "./gate-rule.ts";

/** What one model answered, on rows that both models were asked. */
export interface GateEvaluation {
  readonly task: Task;
  readonly samples: readonly IdentifiedSample[];
}

export interface GateQuestion {
  readonly candidate: GateEvaluation;
  /** Null before anything was promoted. */
  readonly production: GateEvaluation | null;
  /** What rules that compare with production come to while there is none. */
  readonly withoutProduction: "pass" | "refuse";
  /** Of rules that name none; null: differences are taken as they are. */
  readonly significance: number | null;
}

export interface GateRuleResult {
  readonly rule: string;
  readonly passed: boolean;
  /** A sentence for people: what was compared, and why it was enough or not. */
  readonly reason: string;
  readonly candidate: number | null;
  readonly production: number | null;
  /** Candidate less production, on the rows that both answered. */
  readonly difference: number | null;
  readonly pValue: number | null;
  readonly rows: number;
}

export interface GateResult {
  readonly passed: boolean;
  readonly results: readonly GateRuleResult[];
}

/** Holds a candidate against every rule. Rules that cannot be answered (an unknown slice, no rows in common) are not passed. */
export function evaluateGate(rules: readonly GateRule[], question: GateQuestion): GateResult {
  const results = rules.map((rule) => answered(rule, question));
  return { passed: results.every(({ passed }) => passed), results };
}

function answered(rule: GateRule, question: GateQuestion): GateRuleResult {
  try {
    return rule.bound.kind === "number"
      ? againstNumber(rule, rule.bound.value, question)
      : againstProduction(rule, rule.bound, question);
  } catch (error) {
    if (!(error instanceof InvalidError)) throw error;
    return { ...unanswered(rule), passed: false, reason: error.message };
  }
}

function againstNumber(rule: GateRule, bound: number, { candidate }: GateQuestion): GateRuleResult {
  const { score, rows } = scoreOf(rule, rule.metric, candidate);
  const passed = rows > 0 && holds(score, rule.comparison, bound);
  const reason =
    rows === 0
      ? `there are no rows to hold it against: ${explainGateRule(rule)}`
      : `${nameOf(rule)} is ${shown(score)} on ${rows} rows; it must be ${asked[rule.comparison]} ${shown(bound)}`;
  return { ...unanswered(rule), passed, reason, candidate: score, rows };
}

function againstProduction(
  rule: GateRule,
  bound: Extract<GateBound, { kind: "production" }>,
  { candidate, production, withoutProduction, significance: ofGate }: GateQuestion,
): GateRuleResult {
  if (production === null) {
    const passed = withoutProduction === "pass";
    const reason = passed
      ? "there is no production model yet, and this gate lets the first one pass"
      : 'there is no production model yet to compare with: promote a first version by hand, or set withoutProduction to "pass"';
    return { ...unanswered(rule), passed, reason };
  }
  const significance = rule.significance ?? ofGate;
  // On the same rows, so that neither model is favoured by its own.
  const { a, b, difference, pValue, rows } = compareEvaluations(candidate.samples, production.samples, {
    metric: rule.metric,
    slice: rule.slice ?? undefined,
    significance: significance ?? undefined,
  });
  const held =
    bound.metric === rule.metric ? b : scoreOf(rule, bound.metric, onCommonRows(production, candidate)).score;
  const limit = changed(held, bound);
  const isReached = holds(a, rule.comparison, limit);
  // A rule that lets the candidate be worse asks for no difference that could be significant.
  const needsProof = significance !== null && isImprovement(rule.comparison, limit, held);
  const isProven = !needsProof || pValue <= significance;
  const numbers = `${nameOf(rule)} is ${shown(a)}, production's ${bound.metric === rule.metric ? "" : `${bound.metric} `}is ${shown(held)} (${rows} rows)`;
  const reason = !isReached
    ? `${numbers}: it must be ${asked[rule.comparison]} ${shown(limit)}`
    : !isProven
      ? `${numbers}: the difference of ${shown(difference)} may be chance (p = ${shown(pValue)}, must be at most ${significance})`
      : `${numbers}: ${asked[rule.comparison]} ${shown(limit)}${needsProof ? `, p = ${shown(pValue)}` : ""}`;
  return {
    rule: rule.text,
    passed: isReached && isProven,
    reason,
    candidate: a,
    production: held,
    difference,
    pValue,
    rows,
  };
}

function onCommonRows({ task, samples }: GateEvaluation, other: GateEvaluation): GateEvaluation {
  return { task, samples: pairSamples(samples, other.samples).a };
}

function isImprovement(comparison: GateComparison, limit: number, production: number): boolean {
  return comparison === ">=" || comparison === ">" ? limit >= production : limit <= production;
}

function scoreOf(
  { slice }: GateRule,
  metric: string,
  { task, samples }: GateEvaluation,
): { readonly score: number; readonly rows: number } {
  const chosen = slice === null ? samples : inSlice(samples, resolveSlice(sliceNamesOf(samples).names, slice));
  return { score: scoreSamples(task, [metric], chosen).scores[metric] as number, rows: chosen.length };
}

function inSlice(samples: readonly IdentifiedSample[], name: string): IdentifiedSample[] {
  return samples.filter((sample) => isInSlice(sample, name)).map((sample) => asCountedIn(sample, name));
}

function changed(score: number, { change, by }: Extract<GateBound, { kind: "production" }>): number {
  return change === "+" ? score + by : change === "-" ? score - by : score * by;
}

function holds(score: number, comparison: GateComparison, bound: number): boolean {
  switch (comparison) {
    case ">=":
      return score >= bound;
    case ">":
      return score > bound;
    case "<=":
      return score <= bound;
    case "<":
      return score < bound;
  }
}

const asked: Readonly<Record<GateComparison, string>> = {
  ">=": "at least",
  ">": "above",
  "<=": "at most",
  "<": "below",
};

function unanswered({ text }: GateRule): GateRuleResult {
  return {
    rule: text,
    passed: false,
    reason: "",
    candidate: null,
    production: null,
    difference: null,
    pValue: null,
    rows: 0,
  };
}

function nameOf({ metric, slice }: GateRule): string {
  return `candidate.${metric}${slice === null ? "" : ` on slice "${slice}"`}`;
}

function shown(value: number): string {
  return String(Number(value.toPrecision(4)));
}
