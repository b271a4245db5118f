// Numbers: Grafana's BigValue, one for each series, side by side.

import { reduceField } from '@grafana/data';
import { BigValue, BigValueColorMode, BigValueGraphMode, BigValueTextMode } from '@grafana/ui';
import { useMemo } from 'react';

import { seriesFrames } from '../frames';
import type { PanelProps } from './props';

export function StatPanel({ panel, answers, theme, width, height }: PanelProps) {
  const options = panel.options ?? {};
  const values = useMemo(
    () =>
      seriesFrames(answers, panel, theme).map(({ fields: [, field], name }) => {
        const calc: string = options.reduceOptions?.calcs?.[0] ?? 'lastNotNull';
        return { ...field.display!(reduceField({ field, reducers: [calc] })[calc]), title: name };
      }),
    [answers, panel, theme, options]
  );
  return (
    <div style={{ display: 'flex' }}>
      {values.map((value) => (
        <BigValue
          key={value.title}
          theme={theme}
          width={width / values.length}
          height={height}
          value={value}
          count={values.length}
          colorMode={options.colorMode ?? BigValueColorMode.Value}
          // Instant queries have no past to draw.
          graphMode={BigValueGraphMode.None}
          textMode={options.textMode ?? BigValueTextMode.Auto}
        />
      ))}
    </div>
  );
}
