// States over time, a row a series. @grafana/ui has no component for it: the bars are painted here.

import { type Field, type GrafanaTheme2, formattedValueToString } from '@grafana/data';
import { LegendDisplayMode } from '@grafana/schema';
import { VizLayout, VizLegend } from '@grafana/ui';
import { useCallback, useMemo } from 'react';
import type uPlot from 'uplot';

import { seriesFrames } from '../frames';
import { RowsPlot } from './canvas';
import type { PanelProps } from './props';

interface Bar {
  row: number;
  from: number;
  to: number;
  text: string;
  color: string;
}

/** Equal values that follow each other are one bar; what comes later than two steps is a gap. */
function bars(times: number[], field: Field, row: number, stepMs: number): Bar[] {
  const found: Bar[] = [];
  times.forEach((time, at) => {
    const display = field.display!(field.values[at]);
    const text = formattedValueToString(display);
    const last = found.at(-1);
    if (last && last.text === text && time - last.to <= stepMs) {
      last.to = time + stepMs;
    } else {
      if (last && last.to > time) {
        last.to = time;
      }
      found.push({ row, from: time, to: time + stepMs, text, color: display.color ?? 'gray' });
    }
  });
  return found;
}

function paintBars(plot: uPlot, all: Bar[], theme: GrafanaTheme2) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.font = `${12 * devicePixelRatio}px ${theme.typography.fontFamily}`;
  ctx.textBaseline = 'middle';
  for (const { row, from, to, text, color } of all) {
    const [left, right] = [from, to].map((time) => plot.valToPos(time, 'x', true));
    const [bottom, top] = [row + 0.05, row + 0.95].map((place) => plot.valToPos(place, 'y', true));
    ctx.globalAlpha = 0.7;
    ctx.fillStyle = color;
    ctx.fillRect(left, top, right - left, bottom - top);
    ctx.globalAlpha = 1;
    const seen = Math.max(left, bbox.left);
    if (ctx.measureText(text).width + 12 < right - seen) {
      ctx.fillStyle = theme.colors.text.primary;
      ctx.fillText(text, seen + 6, (top + bottom) / 2);
    }
  }
  ctx.restore();
}

export function TimelinePanel({ panel, answers, range, theme, width, height }: PanelProps) {
  const { all, names } = useMemo(() => {
    // Rows are counted from the bottom; the first series is on top.
    const frames = seriesFrames(answers, panel, theme).reverse();
    const stepMs = 1000 * (answers[0]?.stepSeconds ?? 1);
    return {
      all: frames.flatMap(({ fields: [time, field] }, row) => bars(time.values, field, row, stepMs)),
      names: frames.map((frame) => frame.name ?? ''),
    };
  }, [answers, panel, theme]);
  const paint = useCallback((plot: uPlot) => paintBars(plot, all, theme), [all, theme]);
  const states = new Map(all.map(({ text, color }) => [text, color]));
  const items = [...states].map(([label, color]) => ({ label, color, yAxis: 1 }));
  const legend = (
    <VizLayout.Legend placement="bottom">
      <VizLegend placement="bottom" displayMode={LegendDisplayMode.List} items={items} />
    </VizLayout.Legend>
  );
  return (
    <VizLayout width={width} height={height} legend={panel.options?.legend?.showLegend ? legend : null}>
      {(w, h) => (
        <RowsPlot range={range} theme={theme} width={w} height={h} names={names} at="middle" paint={paint} />
      )}
    </VizLayout>
  );
}
