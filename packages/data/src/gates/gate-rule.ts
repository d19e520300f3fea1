import { InvalidError } from "@drydock/kit";
import { smallestSignificance, type Task } from "@drydock/spec";
import { metricNames } from "../metrics/score-samples.ts";

export type GateComparison = ">=" | ">" | "<=" | "<";

/** What a candidate is held against: a number, or production's score changed by one. */
export type GateBound =
  | { readonly kind: "number"; readonly value: number }
  | { readonly kind: "production"; readonly metric: string; readonly change: "+" | "-" | "*"; readonly by: number };

/**
 * One rule of a gate, such as `candidate.iou@0.5 >= production.iou@0.5 + 0.01 on slice "night" with significance 0.05`. Numbers are in
 * the metric's own unit: rates are 0..100, so `+ 0.01` is a hundredth of a point and `+ 1` one point.
 */
export interface GateRule {
  /** As it was written. */
  readonly text: string;
  readonly metric: string;
  readonly comparison: GateComparison;
  readonly bound: GateBound;
  /** Null: all rows. */
  readonly slice: string | null;
  /** Largest p-value at which the difference from production counts; null: the gate's own. */
  readonly significance: number | null;
}

interface Token {
  readonly text: string;
  /** From 1. */
  readonly column: number;
}

const comparisons: readonly string[] = [">=", ">", "<=", "<"];
const example = 'for example: candidate.f1@0.5 >= production.f1@0.5 + 1 on slice "night"';

/** @throws InvalidError `invalid_gate_rule` with the place and what was expected there */
export function parseGateRule(text: string): GateRule {
  return new RuleParser(text).rule();
}

class RuleParser {
  readonly #text: string;
  readonly #tokens: readonly Token[];
  #next = 0;

  constructor(text: string) {
    this.#text = text;
    this.#tokens = [...text.matchAll(/"[^"]*"|>=|<=|[<>+*]|[^\s"<>=+*]+|\S/g)].map((match) => ({
      text: match[0],
      column: match.index + 1,
    }));
  }

  rule(): GateRule {
    const metric = this.#scoreOf("candidate");
    const comparison = this.#take((token) => comparisons.includes(token), "one of >=, >, <=, <") as GateComparison;
    const bound = this.#bound();
    const slice = this.#isNext("on") ? this.#slice() : null;
    const significance = this.#isNext("with") ? this.#significance() : null;
    const rest = this.#tokens[this.#next];
    if (rest) this.#refuse(rest, "nothing more");
    return { text: this.#text, metric, comparison, bound, slice, significance };
  }

  #bound(): GateBound {
    const token = this.#tokens[this.#next];
    if (token && isNumber(token.text)) {
      this.#next++;
      return { kind: "number", value: Number(token.text) };
    }
    const metric = this.#scoreOf("production");
    const change = this.#tokens[this.#next]?.text;
    if (change !== "+" && change !== "-" && change !== "*") return { kind: "production", metric, change: "+", by: 0 };
    this.#next++;
    return { kind: "production", metric, change, by: this.#number() };
  }

  #slice(): string {
    this.#take((token) => token === "on", '"on"');
    this.#take((token) => token === "slice", '"slice"');
    const name = this.#take(
      (token) => /^"[^"]+"$/.test(token),
      'the name of a slice in double quotes, such as "night"',
    );
    return name.slice(1, -1);
  }

  #significance(): number {
    this.#take((token) => token === "with", '"with"');
    this.#take((token) => token === "significance", '"significance"');
    const at = this.#tokens[this.#next];
    const value = this.#number();
    // What is smaller takes more permutations than anybody would wait for.
    if (at && (value < smallestSignificance || value >= 1))
      this.#refuse(at, `a level of at least ${smallestSignificance} and below 1, such as 0.05`);
    return value;
  }

  #scoreOf(side: "candidate" | "production"): string {
    const expected = side === "production" ? `a number or production.<metric>` : `candidate.<metric>`;
    const token = this.#take((each) => each.startsWith(`${side}.`) && each.length > side.length + 1, expected);
    return token.slice(side.length + 1);
  }

  #number(): number {
    return Number(this.#take(isNumber, "a number"));
  }

  #isNext(text: string): boolean {
    return this.#tokens[this.#next]?.text === text;
  }

  #take(fits: (token: string) => boolean, expected: string): string {
    const token = this.#tokens[this.#next];
    if (!token || !fits(token.text)) return this.#refuse(token, expected);
    this.#next++;
    return token.text;
  }

  #refuse(token: Token | undefined, expected: string): never {
    const where = token
      ? `at column ${token.column} there should be ${expected}, not ${shortened(token.text)}`
      : `at its end there should be ${expected}`;
    const message = `the rule ${shortened(this.#text)} cannot be read: ${where} (${example})`;
    throw new InvalidError("invalid_gate_rule", message, {
      details: [{ path: "rules", code: "invalid_gate_rule", message }],
    });
  }
}

/** What a rule asks for, in words. */
export function explainGateRule({ metric, comparison, bound, slice, significance }: GateRule): string {
  const where = slice === null ? "" : ` on the slice "${slice}"`;
  const sure = significance === null ? "" : `, and the difference is not by chance (p ≤ ${significance})`;
  if (bound.kind === "number") return `the candidate's ${metric}${where} is ${words[comparison]} ${bound.value}${sure}`;
  const { change, by } = bound;
  const score = `production's ${bound.metric === metric ? "" : `${bound.metric} `}`.trimEnd();
  const changed =
    change === "*" ? `${by} times ${score}` : by === 0 ? score : `${score} ${change === "+" ? "plus" : "less"} ${by}`;
  return `the candidate's ${metric}${where} is ${words[comparison]} ${changed}${sure}`;
}

const words: Readonly<Record<GateComparison, string>> = {
  ">=": "at least",
  ">": "above",
  "<=": "at most",
  "<": "below",
};

/**
 * Refuses rules that name what there is not.
 *
 * @param slices  names of the slices that the data has; null where they are not known yet
 * @throws InvalidError `unknown_metric`, `unknown_slice`, `invalid_gate_rule`
 */
export function checkGateRules(
  rules: readonly GateRule[],
  { task, slices }: { readonly task: Task; readonly slices: readonly string[] | null },
): void {
  for (const [index, rule] of rules.entries()) {
    const path = `rules.${index}`;
    const named = [rule.metric, ...(rule.bound.kind === "production" ? [rule.bound.metric] : [])];
    for (const metric of named)
      if (!metricNames[task].includes(metric))
        refuse(
          "unknown_metric",
          path,
          `the rule ${shortened(rule.text)} names the metric "${metric}", which task "${task}" does not have: did you mean ${nearest(metric, metricNames[task]).join(" or ")}?`,
        );
    if (rule.significance !== null && rule.bound.kind === "number")
      refuse(
        "invalid_gate_rule",
        path,
        `the rule ${shortened(rule.text)} asks for significance, but compares with a number: significance is that of a difference from production`,
      );
    if (rule.slice !== null && slices !== null && !hasSlice(slices, rule.slice))
      refuse(
        "unknown_slice",
        path,
        `the rule ${shortened(rule.text)} names the slice "${rule.slice}", which the data does not have: ${slices.length === 0 ? "it has none; give rows tags" : `there are ${slices.slice(0, 20).join(", ")}`}`,
      );
  }
}

function hasSlice(slices: readonly string[], name: string): boolean {
  return slices.some((slice) => slice === name || slice.slice(slice.indexOf(":") + 1) === name);
}

function refuse(code: string, path: string, message: string): never {
  throw new InvalidError(code, message, { details: [{ path, code, message }] });
}

/** The two names that are fewest changes of a letter away. */
function nearest(name: string, known: readonly string[]): string[] {
  return known.toSorted((a, b) => changesBetween(name, a) - changesBetween(name, b)).slice(0, 2);
}

/** Levenshtein distance. */
function changesBetween(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (const [i, letter] of Array.from(a).entries())
    row = row.reduce<number[]>((next, above, j) => {
      if (j === 0) return [i + 1];
      const swap = (row[j - 1] as number) + Number(b[j - 1] !== letter);
      return [...next, Math.min(swap, above + 1, (next[j - 1] as number) + 1)];
    }, []);
  return row.at(-1) as number;
}

function isNumber(text: string): boolean {
  return /^-?(?:\d+\.?\d*|\.\d+)$/.test(text);
}

function shortened(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 117)}...` : text);
}
