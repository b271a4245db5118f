// Starts the page: Grafana's theme, fonts and texts, then the dashboard.

import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';

import { ThemeContext, createTheme } from '@grafana/data';
import { GlobalStyles } from '@grafana/ui';
import { createRoot } from 'react-dom/client';

import { App } from './App';

const theme = createTheme({ colors: { mode: 'dark' } });

// Canvases do not wait for fonts by themselves.
await Promise.all([document.fonts.load('400 12px Inter'), document.fonts.load('500 14px Inter')]);
const page = document.getElementById('page');
if (page) {
  createRoot(page).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <App theme={theme} />
    </ThemeContext.Provider>
  );
}
