// What the preview reads of Grafana's classic dashboard JSON: the parts that colo's dashboards use.

import type { DataTransformerConfig, FieldConfig } from '@grafana/data';

export interface Target {
  refId: string;
  expr: string;
  legendFormat?: string;
  instant?: boolean;
  format?: 'time_series' | 'table' | 'heatmap';
}

export interface Panel {
  id: number;
  type: string;
  title: string;
  description?: string;
  gridPos: { x: number; y: number; w: number; h: number };
  fieldConfig?: { defaults: FieldConfig; overrides: Override[] };
  // Each type of panel has its own.
  options?: Record<string, any>;
  targets?: Target[];
  transformations?: DataTransformerConfig[];
}

export interface Override {
  matcher: { id: string; options?: unknown };
  properties: { id: string; value?: unknown }[];
}

export interface Variable {
  name: string;
  label?: string;
  type: string;
  definition?: string;
  allValue?: string;
}

export interface Annotation {
  name: string;
  enable: boolean;
  expr: string;
  step?: string;
  iconColor: string;
  useValueForTime?: boolean;
}

export interface Dashboard {
  uid: string;
  title: string;
  description: string;
  time: { from: string; to: string };
  panels: Panel[];
  templating: { list: Variable[] };
  annotations: { list: Annotation[] };
}

async function get(path: string): Promise<Response> {
  const answer = await fetch(path);
  if (!answer.ok) {
    throw new Error(`${path}: ${answer.status}`);
  }
  return answer;
}

export async function dashboardNames(): Promise<string[]> {
  return (await get('/dashboards')).json();
}

export async function loadDashboard(name: string): Promise<Dashboard> {
  return (await get(`/dashboards/${encodeURIComponent(name)}.json`)).json();
}

/** The data source's "scrape interval", in seconds, as it is provisioned; Grafana's own default is 15. */
export async function scrapeInterval(): Promise<number> {
  const text = await (await get('/datasource.yaml')).text();
  return Number(/^\s*timeInterval:\s*(\d+)s\s*$/m.exec(text)?.[1] ?? 15);
}
