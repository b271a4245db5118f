// What each kind of panel is given.

import type { GrafanaTheme2, TimeRange } from '@grafana/data';

import type { Panel } from '../dashboard';
import type { Answer } from '../frames';

export interface Mark {
  /** Milliseconds since 1970. */
  time: number;
  color: string;
}

export interface PanelProps {
  panel: Panel;
  answers: Answer[];
  marks: Mark[];
  range: TimeRange;
  theme: GrafanaTheme2;
  width: number;
  height: number;
}
