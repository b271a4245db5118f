// A plot with a time axis and named rows, painted by us: for kinds of panels that @grafana/ui has no component for. Axes,
// fonts and sizes are Grafana's.

import type { GrafanaTheme2, TimeRange } from '@grafana/data';
import { AxisPlacement, ScaleDirection, ScaleOrientation } from '@grafana/schema';
import { UPlotChart, UPlotConfigBuilder } from '@grafana/ui';
import { useMemo } from 'react';
import type uPlot from 'uplot';

export interface Rows {
  range: TimeRange;
  theme: GrafanaTheme2;
  width: number;
  height: number;
  /** From the bottom up. */
  names: string[];
  /** Where a row's name stands: beside its middle or its upper edge. */
  at: 'middle' | 'edge';
  paint: (plot: uPlot) => void;
}

export function RowsPlot({ range, theme, width, height, names, at, paint }: Rows) {
  const config = useMemo(() => {
    const builder = new UPlotConfigBuilder('browser');
    builder.addScale({
      scaleKey: 'x',
      isTime: true,
      orientation: ScaleOrientation.Horizontal,
      direction: ScaleDirection.Right,
      range: () => [range.from.valueOf(), range.to.valueOf()],
    });
    builder.addScale({
      scaleKey: 'y',
      orientation: ScaleOrientation.Vertical,
      direction: ScaleDirection.Up,
      range: () => [0, names.length],
    });
    builder.addAxis({ scaleKey: 'x', isTime: true, placement: AxisPlacement.Bottom, theme, grid: { show: false } });
    const places = names.map((_, row) => row + (at === 'middle' ? 0.5 : 1));
    builder.addAxis({
      scaleKey: 'y',
      placement: AxisPlacement.Left,
      theme,
      grid: { show: false },
      ticks: { show: false },
      splits: places,
      values: names,
    });
    builder.addSeries({ scaleKey: 'y', theme, show: true, pathBuilder: () => null, pointsBuilder: () => false });
    builder.setPadding([8, 24, null, null]);
    builder.addHook('drawClear', paint);
    return builder;
  }, [range, theme, names, at, paint]);
  const data = useMemo<uPlot.AlignedData>(
    () => [
      [range.from.valueOf(), range.to.valueOf()],
      [0, names.length],
    ],
    [range, names]
  );
  return <UPlotChart config={config} data={data} width={width} height={height} />;
}
