// Lines: Grafana's TimeSeries, with the dashboard's annotations over it.

import { type UPlotConfigBuilder, TimeSeries } from '@grafana/ui';
import { useLayoutEffect, useMemo } from 'react';

import { seriesFrames } from '../frames';
import type { Mark, PanelProps } from './props';

function Marks({ config, marks }: { config: UPlotConfigBuilder; marks: Mark[] }) {
  useLayoutEffect(() => {
    // Room for the time that may stand at the right end.
    config.setPadding([null, 24, null, null]);
    config.addHook('draw', ({ ctx, bbox, valToPos }) => {
      ctx.save();
      ctx.lineWidth = devicePixelRatio;
      for (const { time, color } of marks) {
        const x = Math.round(valToPos(time, 'x', true)) + 0.5;
        if (x >= bbox.left && x <= bbox.left + bbox.width) {
          ctx.strokeStyle = color;
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
        }
      }
      ctx.restore();
    });
  }, [config, marks]);
  return null;
}

export function TimeSeriesPanel({ panel, answers, marks, range, theme, width, height }: PanelProps) {
  const frames = useMemo(() => seriesFrames(answers, panel, theme), [answers, panel, theme]);
  return (
    <TimeSeries
      frames={frames}
      width={width}
      height={height}
      timeRange={range}
      timeZone="browser"
      legend={panel.options?.legend}
    >
      {(config) => <Marks config={config} marks={marks} />}
    </TimeSeries>
  );
}
