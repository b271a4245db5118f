// Annotations of a dashboard: points in time that its queries give.

import { rangeUtil } from '@grafana/data';

import type { Annotation } from './dashboard';
import type { Mark } from './panels/props';
import { type Scope, interpolate, queryRange } from './prometheus';

/** Where regions begin: values above 0 that are no further apart than the step are one. */
async function marks(annotation: Annotation, scope: Scope): Promise<Mark[]> {
  const step = rangeUtil.intervalToSeconds(annotation.step || '60s');
  const series = await queryRange(interpolate(annotation.expr, scope, step), scope.range, step);
  return series.flatMap(({ times, values }) => {
    const active = annotation.useValueForTime
      ? values.flatMap((value) => (value === null ? [] : [Math.floor(value)]))
      : times.filter((_, at) => (values[at] ?? 0) > 0);
    const begins = active.filter((time, at) => at === 0 || time - active[at - 1] > step * 1000);
    return begins.map((time) => ({ time, color: annotation.iconColor }));
  });
}

export async function allMarks(annotations: Annotation[], scope: Scope): Promise<Mark[]> {
  const enabled = annotations.filter((annotation) => annotation.enable);
  return (await Promise.all(enabled.map((annotation) => marks(annotation, scope)))).flat();
}
