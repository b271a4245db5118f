// Rows and columns: Grafana's Table.

import type { DataFrame } from '@grafana/data';
import { Table } from '@grafana/ui';
import { useEffect, useState } from 'react';

import { tableFrame } from '../frames';
import type { PanelProps } from './props';

export function TablePanel({ panel, answers, theme, width, height }: PanelProps) {
  const [frame, setFrame] = useState<DataFrame>();
  const [error, setError] = useState<Error>();
  useEffect(() => {
    tableFrame(answers, panel, theme).then(setFrame, setError);
  }, [answers, panel, theme]);
  if (error) {
    // The panel's boundary shows it.
    throw error;
  }
  return frame && <Table data={frame} width={width} height={height} noHeader={panel.options?.showHeader === false} />;
}
