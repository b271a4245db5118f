// One panel: asks its queries, and draws the answers in Grafana's panel frame.

import type { GrafanaTheme2 } from '@grafana/data';
import { PanelChrome } from '@grafana/ui';
import { Component, type ReactNode, useEffect, useState } from 'react';

import type { Panel } from './dashboard';
import { type Answer, answers } from './frames';
import { HeatmapPanel } from './panels/HeatmapPanel';
import type { Mark, PanelProps } from './panels/props';
import { StatPanel } from './panels/StatPanel';
import { TablePanel } from './panels/TablePanel';
import { TimelinePanel } from './panels/TimelinePanel';
import { TimeSeriesPanel } from './panels/TimeSeriesPanel';
import type { Scope } from './prometheus';

interface Kind {
  draw: (props: PanelProps) => ReactNode;
  /** Said in the panel's corner where it is not a component of Grafana's. */
  own?: string;
}

const KINDS: Record<string, Kind> = {
  timeseries: { draw: TimeSeriesPanel },
  stat: { draw: StatPanel },
  table: { draw: TablePanel },
  'state-timeline': { draw: TimelinePanel, own: "the preview's own drawing" },
  heatmap: { draw: HeatmapPanel, own: "the preview's own drawing" },
};

export interface Outcome {
  title: string;
  /** Why there is nothing to see. */
  problem?: string;
}

interface BoxProps {
  panel: Panel;
  scope: Scope;
  marks: Mark[];
  theme: GrafanaTheme2;
  width: number;
  height: number;
  onDone: (id: number, outcome: Outcome) => void;
}

/** Turns a panel that throws into a sentence. */
class Boundary extends Component<{ onError: (error: Error) => void; children: ReactNode }, { failed: boolean }> {
  state = { failed: false };

  static getDerivedStateFromError() {
    return { failed: true };
  }

  componentDidCatch(error: Error) {
    this.props.onError(error);
  }

  render() {
    return this.state.failed ? null : this.props.children;
  }
}

export function PanelBox({ panel, scope, marks, theme, width, height, onDone }: BoxProps) {
  const [got, setGot] = useState<Answer[]>();
  const [problem, setProblem] = useState<string>();
  const kind = KINDS[panel.type];

  useEffect(() => {
    if (!kind) {
      setProblem(`the preview cannot draw panels of type ${panel.type}`);
      return;
    }
    answers(panel, scope, width).then(
      (all) => {
        const values = all.flatMap((answer) => answer.series.flatMap((series) => series.values));
        setGot(all);
        setProblem(values.some((value) => value !== null) ? undefined : 'No data');
      },
      (error: Error) => setProblem(error.message)
    );
  }, [panel, scope, width, kind]);

  useEffect(() => {
    if (got || problem) {
      onDone(panel.id, { title: panel.title, problem });
    }
  }, [got, problem, panel, onDone]);

  const note = kind?.own && (
    <span key="own" style={{ color: theme.colors.text.secondary, fontSize: 11, whiteSpace: 'nowrap' }}>
      {kind.own}
    </span>
  );
  return (
    <PanelChrome
      title={panel.title}
      description={panel.description}
      width={width}
      height={height}
      padding={panel.type === 'table' ? 'none' : 'md'}
      actions={note}
    >
      {(w, h) =>
        problem ? (
          <div style={{ display: 'grid', placeItems: 'center', height: h, color: theme.colors.text.secondary }}>
            {problem}
          </div>
        ) : (
          got && (
            <Boundary onError={(error) => setProblem(error.message)}>
              <kind.draw
                panel={panel}
                answers={got}
                marks={marks}
                range={scope.range}
                theme={theme}
                width={w}
                height={h}
              />
            </Boundary>
          )
        )
      }
    </PanelChrome>
  );
}
