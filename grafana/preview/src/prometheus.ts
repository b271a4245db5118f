// Prometheus's HTTP API, and the variables that Grafana puts into queries before it asks them.

import { dateTime, rangeUtil, type TimeRange } from '@grafana/data';

import type { Variable } from './dashboard';

export interface Series {
  labels: Record<string, string>;
  /** Milliseconds since 1970. */
  times: number[];
  /** Null where Prometheus says NaN. */
  values: (number | null)[];
}

/** Chosen values of a variable, or everything that its `allValue` takes. */
export type Values = Record<string, { all: true; allValue: string } | { all: false; chosen: string[] }>;

/** What a query depends on besides its expression. */
export interface Scope {
  range: TimeRange;
  scrapeSeconds: number;
  values: Values;
}

export function rangeOf(from: string, to: string): TimeRange {
  return rangeUtil.convertRawToRange({ from, to });
}

async function ask(path: string, parameters: Record<string, string | number>): Promise<any> {
  const query = new URLSearchParams(Object.entries(parameters).map(([key, value]) => [key, String(value)]));
  const answer = await fetch(`/api/v1/${path}?${query}`);
  const body = await answer.json().catch(() => ({ error: `HTTP status ${answer.status}` }));
  if (body.status !== 'success') {
    throw new Error(body.error ?? 'no answer');
  }
  return body.data;
}

/** Seconds of `$__interval` for a panel of that width: a point a pixel, and never below the scrape interval. */
export function intervalSeconds(scope: Scope, width: number): number {
  const { intervalMs } = rangeUtil.calculateInterval(scope.range, Math.max(1, width), `${scope.scrapeSeconds}s`);
  return intervalMs / 1000;
}

/** As a part of a regular expression inside of a quoted string, where each backslash is written twice. */
function regexValue(value: string): string {
  return value.replace(/[\\^$*+?.()|[\]{}]/g, (one) => (one === '\\' ? '\\\\\\\\' : `\\\\${one}`));
}

function valueOf(one: Values[string]): string {
  if (one.all) {
    return one.allValue;
  }
  const escaped = one.chosen.map(regexValue);
  return escaped.length === 1 ? escaped[0] : `(${escaped.join('|')})`;
}

/** Puts variables into an expression: those of the dashboard, and Grafana's own for ranges. */
export function interpolate(expression: string, scope: Scope, interval: number): string {
  const rangeSeconds = Math.round((scope.range.to.valueOf() - scope.range.from.valueOf()) / 1000);
  const rate = Math.max(interval + scope.scrapeSeconds, 4 * scope.scrapeSeconds);
  const own: Record<string, string> = {
    __interval: `${interval}s`,
    __interval_ms: String(interval * 1000),
    __range: `${rangeSeconds}s`,
    __range_s: String(rangeSeconds),
    __rate_interval: `${rate}s`,
  };
  return expression.replace(/\$(?:(\w+)|\{(\w+)(?::regex)?\})/g, (whole, bare, braced) => {
    const name = bare ?? braced;
    const value = scope.values[name];
    return own[name] ?? (value ? valueOf(value) : whole);
  });
}

function number(text: string): number | null {
  const value = Number(text.replace('Inf', 'Infinity'));
  return Number.isNaN(value) ? null : value;
}

/** Over the range, at whole multiples of the step, as Grafana asks. */
export async function queryRange(expression: string, range: TimeRange, step: number): Promise<Series[]> {
  const align = (time: number) => Math.floor(time / 1000 / step) * step;
  const [start, end] = [align(range.from.valueOf()), align(range.to.valueOf())];
  const data = await ask('query_range', { query: expression, start, end, step });
  return data.result.map(({ metric, values }: { metric: Record<string, string>; values: [number, string][] }) => ({
    labels: metric,
    times: values.map(([time]) => time * 1000),
    values: values.map(([, value]) => number(value)),
  }));
}

/** At the range's end. */
export async function queryInstant(expression: string, range: TimeRange): Promise<Series[]> {
  const data = await ask('query', { query: expression, time: range.to.valueOf() / 1000 });
  return data.result.map(({ metric, value }: { metric: Record<string, string>; value: [number, string] }) => ({
    labels: metric,
    times: [value[0] * 1000],
    values: [number(value[1])],
  }));
}

/** What `label_values(series, label)` offers now. */
export async function labelValues(variable: Variable, scope: Scope): Promise<string[]> {
  const parts = /^label_values\((.*),\s*(\w+)\)$/.exec(variable.definition ?? '');
  if (!parts) {
    throw new Error(`variable ${variable.name}: ${variable.definition} is not label_values(series, label)`);
  }
  const matcher = interpolate(parts[1], scope, scope.scrapeSeconds);
  const { from, to } = scope.range;
  return ask(`label/${parts[2]}/values`, {
    'match[]': matcher,
    start: from.valueOf() / 1000,
    end: to.valueOf() / 1000,
  });
}

/** `{{label}}` in a legend's format; without one, the series as Prometheus writes it. */
export function legend(format: string | undefined, labels: Record<string, string>): string {
  if (format) {
    return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '').trim();
  }
  const { __name__: name = '', ...others } = labels;
  const inside = Object.entries(others).map(([label, value]) => `${label}="${value}"`);
  return `${name}{${inside.join(', ')}}`;
}

export function clock(time: number): string {
  return dateTime(time).format('HH:mm:ss');
}
