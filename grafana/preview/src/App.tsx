// The page: what it is, which dashboard, what the variables are, and the panels where the dashboard puts them.
//
// Address: ?dashboard=overview&from=now-5m&to=now&var-instance=NAME, with the parameters that Grafana has, too.

import type { GrafanaTheme2 } from '@grafana/data';
import { Icon } from '@grafana/ui';
import { useCallback, useEffect, useState } from 'react';

import { allMarks } from './annotations';
import { type Dashboard, type Panel, dashboardNames, loadDashboard, scrapeInterval } from './dashboard';
import { type Outcome, PanelBox } from './PanelBox';
import type { Mark } from './panels/props';
import { type Scope, type Values, clock, labelValues, rangeOf } from './prometheus';

// Grafana's grid: 24 columns, rows of 30 pixels, 8 between panels.
const COLUMNS = 24;
const ROW = 30;
const GAP = 8;
const MARGIN = 16;

interface Loaded {
  names: string[];
  name: string;
  dashboard: Dashboard;
  scope: Scope;
  offers: Record<string, string[]>;
  marks: Mark[];
}

async function load(): Promise<Loaded> {
  const query = new URLSearchParams(location.search);
  const names = await dashboardNames();
  const name = query.get('dashboard') ?? (names.includes('overview') ? 'overview' : names[0]);
  const dashboard = await loadDashboard(name);
  const values: Values = {};
  const range = rangeOf(query.get('from') ?? dashboard.time.from, query.get('to') ?? dashboard.time.to);
  const scope: Scope = { range, scrapeSeconds: await scrapeInterval(), values };
  const offers: Record<string, string[]> = {};
  // In order: a variable's query may use those before it.
  for (const variable of dashboard.templating.list.filter((one) => one.type === 'query')) {
    const chosen = query.getAll(`var-${variable.name}`);
    values[variable.name] =
      chosen.length > 0 ? { all: false, chosen } : { all: true, allValue: variable.allValue ?? '.*' };
    offers[variable.name] = await labelValues(variable, scope);
  }
  const marks = await allMarks(dashboard.annotations.list, scope);
  return { names, name, dashboard, scope, offers, marks };
}

function place({ gridPos: { x, y, w, h } }: Panel, width: number) {
  const column = (width + GAP) / COLUMNS;
  return {
    left: Math.round(x * column),
    top: y * (ROW + GAP),
    width: Math.round((x + w) * column) - Math.round(x * column) - GAP,
    height: h * (ROW + GAP) - GAP,
  };
}

function Heading({ loaded, theme }: { loaded: Loaded; theme: GrafanaTheme2 }) {
  const { names, name, dashboard, scope, offers } = loaded;
  const chosen = dashboard.templating.list
    .filter((variable) => variable.name in offers)
    .map(({ name: key, label }) => {
      const value = scope.values[key];
      return `${label ?? key}: ${value.all ? `All (${offers[key].join(', ')})` : value.chosen.join(' + ')}`;
    });
  const { from, to } = scope.range;
  return (
    <header style={{ padding: `12px ${MARGIN}px` }}>
      <div
        style={{
          padding: '6px 12px',
          marginBottom: 12,
          borderRadius: 2,
          background: theme.colors.warning.transparent,
          color: theme.colors.warning.text,
        }}
      >
        This is a preview, not Grafana: colo's dashboard files drawn with Grafana's components (@grafana/ui) from a live
        Prometheus. Panels that those have no component for say so.
      </div>
      <nav style={{ display: 'flex', gap: 16, alignItems: 'baseline' }}>
        <h1 style={{ fontSize: 20, margin: 0 }}>{dashboard.title}</h1>
        {names.map((one) => (
          <a
            key={one}
            href={`?dashboard=${one}`}
            style={{ color: one === name ? theme.colors.text.primary : theme.colors.text.link }}
          >
            {one}
          </a>
        ))}
        <span style={{ marginLeft: 'auto', color: theme.colors.text.secondary }}>
          {[...chosen, `${clock(from.valueOf())} to ${clock(to.valueOf())}`].join(' · ')}
        </span>
      </nav>
    </header>
  );
}

export function App({ theme }: { theme: GrafanaTheme2 }) {
  const [loaded, setLoaded] = useState<Loaded>();
  const [error, setError] = useState<Error>();
  const [outcomes, setOutcomes] = useState<Record<number, Outcome>>({});
  useEffect(() => {
    load().then(setLoaded, setError);
  }, []);
  const onDone = useCallback((id: number, outcome: Outcome) => {
    setOutcomes((before) => ({ ...before, [id]: outcome }));
  }, []);

  const panels = loaded?.dashboard.panels ?? [];
  const wanted = panels.filter((panel) => panel.type !== 'row').length;
  const done = Object.values(outcomes);
  useEffect(() => {
    // For the one who takes pictures.
    const problems = done.filter((one) => one.problem).map((one) => `${one.title}: ${one.problem}`);
    document.body.dataset.problems = JSON.stringify(error ? [error.message] : problems);
    document.body.dataset.ready = String(error !== undefined || (wanted > 0 && done.length === wanted));
  });

  if (error) {
    return <p style={{ padding: MARGIN }}>{error.message}</p>;
  }
  if (!loaded) {
    return <p style={{ padding: MARGIN }}>Asking Prometheus …</p>;
  }
  const width = document.documentElement.clientWidth - 2 * MARGIN;
  const bottom = Math.max(...panels.map(({ gridPos: { y, h } }) => y + h));
  return (
    <>
      <Heading loaded={loaded} theme={theme} />
      <main style={{ position: 'relative', margin: `0 ${MARGIN}px`, height: bottom * (ROW + GAP) + GAP }}>
        {panels.map((panel) => {
          const box = place(panel, width);
          return (
            <div key={panel.id} style={{ position: 'absolute', ...box }}>
              {panel.type === 'row' ? (
                <h2 style={{ fontSize: 16, margin: 0, lineHeight: `${box.height}px` }}>
                  <Icon name="angle-down" /> {panel.title}
                </h2>
              ) : (
                <PanelBox
                  panel={panel}
                  scope={loaded.scope}
                  marks={loaded.marks}
                  theme={theme}
                  width={box.width}
                  height={box.height}
                  onDone={onDone}
                />
              )}
            </div>
          );
        })}
      </main>
    </>
  );
}
