// How many values fell into each bucket of a histogram, over time. @grafana/ui has no component for it: the cells are
// painted here.

import { formattedValueToString, getValueFormat } from '@grafana/data';
import { useCallback, useMemo } from 'react';
import type uPlot from 'uplot';

import type { Answer } from '../frames';
import { RowsPlot } from './canvas';
import type { PanelProps } from './props';

interface Cell {
  row: number;
  from: number;
  to: number;
  count: number;
}

/** Buckets of Prometheus count everything up to their bound; a cell has what is above the bound before. */
function cells(answer: Answer | undefined): { bounds: number[]; all: Cell[] } {
  const bound = (le: string) => Number(le.replace('Inf', 'Infinity'));
  const sorted = [...(answer?.series ?? [])].sort((one, other) => bound(one.labels.le) - bound(other.labels.le));
  const stepMs = 1000 * (answer?.stepSeconds ?? 1);
  const all = sorted.flatMap(({ times, values }, row) => {
    const below = sorted[row - 1];
    const before = new Map(below?.times.map((time, at) => [time, below.values[at] ?? 0]));
    return times.map((time, at) => {
      const count = Math.max(0, (values[at] ?? 0) - (before.get(time) ?? 0));
      return { row, from: time - stepMs, to: time, count };
    });
  });
  return { bounds: sorted.map((one) => bound(one.labels.le)), all };
}

// The ends of the scheme "Oranges" on a dark page, through its middle.
const RAMP = [
  [60, 24, 4],
  [217, 72, 1],
  [253, 208, 162],
];

function color(share: number): string {
  const at = Math.min(share, 0.999) * (RAMP.length - 1);
  const [low, high] = [RAMP[Math.floor(at)], RAMP[Math.floor(at) + 1]];
  const mixed = low.map((one, channel) => Math.round(one + (high[channel] - one) * (at % 1)));
  return `rgb(${mixed.join(',')})`;
}

function paintCells(plot: uPlot, all: Cell[], rows: number) {
  const { ctx, bbox } = plot;
  const most = Math.max(...all.map((cell) => cell.count));
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  const gap = bbox.height / rows > 6 ? 1 : 0;
  for (const { row, from, to, count } of all.filter((cell) => cell.count > 0)) {
    const [left, right] = [from, to].map((time) => Math.round(plot.valToPos(time, 'x', true)));
    const [bottom, top] = [row, row + 1].map((place) => Math.round(plot.valToPos(place, 'y', true)));
    // The square root lets rare ones be seen, as Grafana's exponential scale does.
    ctx.fillStyle = color(Math.sqrt(count / most));
    ctx.fillRect(left, top, Math.max(1, right - left - gap), bottom - top - gap);
  }
  ctx.restore();
}

export function HeatmapPanel({ panel, answers, range, theme, width, height }: PanelProps) {
  const { bounds, all } = useMemo(() => cells(answers[0]), [answers]);
  const names = useMemo(() => {
    const format = getValueFormat(panel.options?.yAxis?.unit ?? panel.fieldConfig?.defaults.unit ?? 'none');
    // Names need some 16 pixels each.
    const every = Math.ceil((16 * bounds.length) / (height - 40));
    const name = (bound: number) => (bound === Infinity ? '+Inf' : formattedValueToString(format(bound)));
    return bounds.map((bound, row) => ((bounds.length - 1 - row) % every === 0 ? name(bound) : ''));
  }, [bounds, panel, height]);
  const paint = useCallback((plot: uPlot) => paintCells(plot, all, bounds.length), [all, bounds]);
  return <RowsPlot range={range} theme={theme} width={width} height={height} names={names} at="edge" paint={paint} />;
}
